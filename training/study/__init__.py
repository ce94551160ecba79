"""Many runs as one piece of work: commands, and what each needs, come in and are done side by side."""
