-- Enters members into an agenda.
--
-- KEYS  1 the agenda: member -> when it is due, Unix ms
-- ARGV  1 in how many ms they are due  2 what becomes of a member that is there:
--         'sooner'  it is due at the sooner of the two times, and who works on it now
--                   no longer strikes it
--         'set'     it is due at the new time
--         'new'     it stays as it is
--       3... members
--
-- Returns nothing.
local t = redis.call('TIME')
local at = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) + tonumber(ARGV[1])
for i = 3, #ARGV do
  local there = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local n = tonumber(there)
  if not there or ARGV[2] == 'set' or ARGV[2] == 'sooner' and (n > at or n % 1 ~= 0) then
    redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[i])
  end
end
