"""The live console: one page on loopback that shows what the lab does. It reads; nothing here changes anything."""
