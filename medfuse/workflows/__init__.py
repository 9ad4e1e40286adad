"""What a command does: one function a command, from what a user gave to what is written."""
