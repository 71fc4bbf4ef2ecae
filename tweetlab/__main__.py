"""`python -m tweetlab` is the command."""

from tweetlab.cli import main

main()
