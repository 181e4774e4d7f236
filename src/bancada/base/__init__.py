"""What every other package stands on: files written whole, tables, locks, refusals, the door of a stage."""
