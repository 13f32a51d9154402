-- Replaces what is known of a host.
--
-- KEYS  1 muster:host:{<host>}:info  2 muster:host:{<host>}:ipv4
-- ARGV  1 number of fields  2... field, value, ...  then the IPv4 addresses in order
--
-- Returns nothing.
local t = redis.call('TIME')
local fields = tonumber(ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'reported_us',
  string.format('%.0f', tonumber(t[1]) * 1000000 + tonumber(t[2])), unpack(ARGV, 2, 1 + 2 * fields))
for i = 2 + 2 * fields, #ARGV do
  redis.call('RPUSH', KEYS[2], ARGV[i])
end
