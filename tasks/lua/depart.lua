-- Deletes keys of a host that went offline, unless its information is newer than its
-- departure: then it has come back. Information that can't be read is as none.
--
-- KEYS  1 muster:host:{<host>}:info  2... the keys to delete
-- ARGV  1 when it went offline, Unix microseconds
--
-- Returns nothing.
local at = tonumber(redis.pcall('HGET', KEYS[1], 'reported_us'))
if at and at > tonumber(ARGV[1]) then
  return
end
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
end
