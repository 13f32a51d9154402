-- Strikes a listener that holds no host any more: it has stopped, or was swept.
--
-- KEYS  1 {muster}:listeners  2 {muster}:at:<listener>
-- ARGV  1 the listener  2 'sweep' if its lease is to have ended
--
-- Returns 1 if it is struck, 0 if it holds hosts or lives.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
if ARGV[2] == 'sweep' then
  local t = redis.call('TIME')
  local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if ends and tonumber(ends) > now then
    return 0
  end
end
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
