"""The ports on real servers, one file each, and their equals in memory."""
