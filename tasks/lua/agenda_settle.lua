-- Ends the claim on a member of an agenda, unless it was entered or claimed anew.
--
-- KEYS  1 the agenda
-- ARGV  1 member  2 the claim  3 when it is due again, Unix ms; empty: never
--
-- Returns 1 if the claim was ended, else 0.
local there = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not there or tonumber(there) ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
