"""Many runs as one piece of work: commands with what each needs, done side by side; in comes a list, out go run folders."""
