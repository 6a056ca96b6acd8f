"""What keeps components alive: lifecycle, threads, restart policy, supervisor."""
