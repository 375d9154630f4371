"""The always-on service: microphone, model and detector kept alive, with status, events and captures."""
