"""The embedded cloud: the Pulumi program run without a CLI, its resources made in a lifelike moto."""
