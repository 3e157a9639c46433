"""What the project promises of its speed, measured beside what it is compared with. ``make bench`` prints it."""
