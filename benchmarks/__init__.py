"""What it costs and what it carries, each figure beside an alternative measured in the same run.

`make bench`; one part alone: `make bench BENCH_ARGS="signatures"`. Not tests: nothing here fails because a machine is slow.
"""
