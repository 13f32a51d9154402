-- Records that hosts went offline, once their keys are deleted. A departure that
-- someone else has finished is passed over.
--
-- KEYS  1 {muster}:departed  2 {muster}:events
-- ARGV  1 events kept  then host, when it went offline (Unix microseconds), reason, ...
--
-- Returns nothing.
for i = 2, #ARGV, 3 do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if at and tonumber(at) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'type', 'host.offline',
      'host', ARGV[i], 'reason', ARGV[i + 2])
  end
end
