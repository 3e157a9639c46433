"""Configuration: the frozen types of a trial, a study and a result; composing, values, axes and constraints."""
