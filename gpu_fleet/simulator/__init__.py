"""The serving simulator: request by request, on virtual time.

`kernel` is the compiled event loop, `simulation` owns its state, `pool_window` and `sketch` hold its figures. Around
them, `feed` hands out the traffic, `simulated_fleet` and `fleet_lifecycle` are the machines, `telemetry` the metrics,
`world` all of it together, and `drive` runs a scaling rule in a world.
"""
