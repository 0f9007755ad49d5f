"""The Pulumi program: components that create the stack. It decides nothing about scaling and never uses boto3."""
