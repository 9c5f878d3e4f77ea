# the finesse command
