-- Enters members into an agenda.
--
-- KEYS  1 the agenda
-- ARGV  1 in how many ms they are due  2 what becomes of a member that is there:
--         'sooner', 'set' or 'new'  3... members
--
-- Returns nothing.
local at = due_in(ARGV[1])
for i = 3, #ARGV do
  enter(KEYS[1], ARGV[i], at, ARGV[2])
end
