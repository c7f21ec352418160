"""What every role shares: endpoints, security associations, events, pools, timers, the bounded reader."""
