"""The record of each request, metrics, logs, and the watchdog."""
