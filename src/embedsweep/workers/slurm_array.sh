#!/bin/bash
# One job of the array that works on study {{study}}. The command takes the place of this shell, so that it is the one
# to receive SIGTERM: before the time limit, when the job is preempted, and when it is cancelled. It is told of one that
# comes earlier.
trap 'export EMBEDSWEEP_JOB=ends' TERM
{{setup}}
exec {{command}}
