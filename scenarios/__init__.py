"""The question, declared: scenario files, the tape of operations and the population drawn from their seed."""
