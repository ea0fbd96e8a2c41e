"""What is checked of a job before anything long starts."""
