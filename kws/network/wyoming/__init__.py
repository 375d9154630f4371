"""The Wyoming wake-word server: remote microphones send audio, and are told of the words in it.

`settings` and `thread` load nothing heavy; the rest needs the package `wyoming`, an extra.
"""
