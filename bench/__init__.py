"""`make bench`: what is slow, as one table of rows; one row is one number against one bar."""
