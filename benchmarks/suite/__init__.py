"""Everything within a number of minutes: one section a process, one result and one sheet of charts out."""
