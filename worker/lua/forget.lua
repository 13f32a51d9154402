-- Removes a consumer from the group, unless entries are pending with it: they would
-- be lost with it.
--
-- KEYS  1 muster:requests
-- ARGV  1 group  2 consumer
--
-- Returns 1 if the consumer is gone, 0 if it was kept.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
