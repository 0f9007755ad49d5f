"""The commands of `gpu-fleet`, one module each."""
