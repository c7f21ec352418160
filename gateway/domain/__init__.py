"""What every role shares: endpoints, security associations, pools, timers, the bounded reader."""
