"""The compiled engine: the same programs as the reference engine, from arrays, compiled by numba.

Every object (process, task, job, pool, ...) is a row of one table, `rows`; its number is its row, and 0 is none. `layout`
names the columns. The order of events in an instant is that of SimPy, hop by hop: new processes first (`URGENT`), then
what was due, then what this instant caused (`SOON`). So both engines give the same event at the same nanosecond.
"""
