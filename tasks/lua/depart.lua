-- Deletes keys of a host that went offline, unless it has come back since: then its
-- information is newer than its departure.
--
-- KEYS  1 muster:host:{<host>}:info  2... the keys to delete
-- ARGV  1 when it went offline, Unix microseconds
--
-- Returns 1 if they are deleted, 0 if they are newer.
local at = redis.call('HGET', KEYS[1], 'reported_us')
if at and tonumber(at) > tonumber(ARGV[1]) then
  return 0
end
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
end
return 1
