"""`python -m tweetlab` runs the command line."""

from tweetlab.cli import main

main()
