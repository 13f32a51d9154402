-- Shared beginning of the scripts that enter members into an agenda: member -> when it is
-- due, Unix ms. It is no script of its own.

-- When something is due in a number of ms, by Redis's clock.
local function due_in(ms)
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) + tonumber(ms)
end

-- Enters a member that is due at a time. What becomes of one that is there, mode says:
--   'sooner'  it is due at the sooner of the two times, and who works on it now no longer
--             strikes it
--   'set'     it is due at the new time
--   'new'     it stays as it is
local function enter(agenda, member, at, mode)
  local there = redis.call('ZSCORE', agenda, member)
  local n = tonumber(there)
  if not there or mode == 'set' or mode == 'sooner' and (n > at or n % 1 ~= 0) then
    redis.call('ZADD', agenda, string.format('%.0f', at), member)
  end
end
