"""Fill a service's folder in S3 with a model's files, from a folder or from Hugging Face."""
