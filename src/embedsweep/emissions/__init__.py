"""Energy and CO2 of trials, measured with CodeCarbon and recorded per attempt in a trial's ``emissions.csv``.

Every tracker measures the whole machine: in a process group only rank 0 may measure, and workers that run at the same
time share one tracker in the process that started them.
"""
