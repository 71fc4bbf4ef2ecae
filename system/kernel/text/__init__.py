"""Text as Twitter counts it and as a search compares it: weights, entities, folding. Pure: reads no clock, no store."""
