-- Replaces a piece of state, if it is still what the caller saw last; with nothing to put there, only looks.
-- KEYS: the piece, and perhaps the existing tool's of the same. ARGV: as it was seen, as it is to be, its life in ms;
-- and of the tool's: as it was seen, as it is to be (nothing: as it was), its life in s. Gives whether it was replaced,
-- the time in µs, and, if it was not, both as they are.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local there = redis.call('GET', KEYS[1]) or ''
local theirs = KEYS[2] and redis.call('GET', KEYS[2]) or ''
-- What is looked at is in use: what an operator set never changes, and is not to be forgotten.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[2] == '' or there ~= ARGV[1] or (KEYS[2] and theirs ~= ARGV[4]) then
  return {0, now, there, theirs}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if KEYS[2] and ARGV[5] ~= '' then
  redis.call('SET', KEYS[2], ARGV[5], 'EX', ARGV[6])
end
return {1, now, '', ''}
