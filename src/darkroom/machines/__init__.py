"""`darkroom join`: this machine takes part in the trainings of another one."""
