"""What stands in AWS, read and shown."""
