"""shiftgym: real traces replayed under distribution shift, and the policies that decide on them, scored."""
