-- Enters a task set where workers find it: its deadline is kept, and its hosts are looked
-- after that do not answer.
--
-- KEYS  1 {muster}:sets  2 {muster}:due
-- ARGV  1 task number  2 deadline, Unix ms  3 in how many ms its hosts are looked after
--
-- Returns nothing.
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
enter(KEYS[2], ARGV[1], due_in(ARGV[3]), 'sooner')
