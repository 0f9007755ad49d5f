"""The Lambdas: the hands of the fleet."""
