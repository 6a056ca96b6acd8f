"""What users declare: components, ports, policies, topology. No thread and no I/O."""
