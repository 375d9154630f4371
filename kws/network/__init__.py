"""What leaves the machine, if the settings ask for it: MQTT, webhooks. Never on the threads that listen."""
