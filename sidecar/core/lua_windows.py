"""The windows of windows.py and sliding.py once more, in Lua: what the script of the shared ledger counts with.

Held to the same verdicts as the Python ones by property tests on a real server. Lua's numbers are doubles: times are
microseconds since the ledger began, a level may be a fraction, and where rounding decides, it decides for later. One
window is a plain array, so that it can be packed; `spec` has its limit, its length `span`, its `transit`, and `ends`,
the next boundary of a calendar that is not UTC's (0: UTC's). Every function brings the window up to `now` first.
"""

LUA_WINDOWS = r"""
local kinds = {}

local bucket = {}  -- {level, at, hold}: nothing refills before `hold`
kinds.token_bucket = bucket
function bucket.new() return {0, 0, 0} end
function bucket.turn(w, spec, now)
  local from = math.max(w[2], w[3])
  if now > from then w[1] = math.max(0, w[1] - (now - from) * spec.limit / spec.span) end
  if now > w[2] then w[2] = now end
end
function bucket.used(w) return w[1] end
function bucket.spend(w, spec, amount, now)
  bucket.turn(w, spec, now)
  if w[1] <= 0 and now >= w[3] then w[3] = now + spec.transit end
  w[1] = w[1] + amount
end
function bucket.refund(w, spec, amount, now, at)
  bucket.turn(w, spec, now)
  local left = math.max(amount, spec.limit) - (now - at) * spec.limit / spec.span
  w[1] = math.max(0, w[1] - math.max(0, math.min(amount, left)))
end
function bucket.free_at(w, spec, amount, now)
  bucket.turn(w, spec, now)
  local excess = w[1] + amount - spec.limit
  if excess <= 0 or amount == 0 then return now end
  return math.max(now, w[3]) + math.ceil(excess * spec.span / spec.limit) + 1
end
function bucket.whole_at(w, spec, now)
  bucket.turn(w, spec, now)
  if w[1] <= 0 or spec.limit <= 0 then return now end
  return math.max(now, w[3]) + math.ceil(w[1] * spec.span / spec.limit)
end

local sliding = {}  -- {used, opened, newest instants, spent in each slot}
kinds.sliding = sliding
function sliding.new() return {0, 0, {}, {}} end
function sliding.turn(w, spec, now)
  local newest, spent = w[3], w[4]
  local gone = 0
  while newest[gone + 1] and newest[gone + 1] <= now - spec.span do
    gone = gone + 1
    w[1] = w[1] - spent[gone]
  end
  if gone > 0 then
    local kept = #newest - gone
    for slot = 1, #newest do
      newest[slot] = slot <= kept and newest[slot + gone] or nil
      spent[slot] = slot <= kept and spent[slot + gone] or nil
    end
  end
end
function sliding.used(w) return w[1] end
function sliding.spend(w, spec, amount, now)
  sliding.turn(w, spec, now)
  local newest, spent = w[3], w[4]
  local at, last = now + spec.transit, #newest
  w[1] = w[1] + amount
  if last == 0 or at - w[2] >= math.ceil(spec.span / 63) then
    newest[last + 1], spent[last + 1], w[2] = at, amount, at
  else
    newest[last], spent[last] = math.max(at, newest[last]), spent[last] + amount
  end
end
function sliding.refund(w, spec, amount, now, at)
  sliding.turn(w, spec, now)
  if at + spec.transit + spec.span <= now then return end
  for slot, newest in ipairs(w[3]) do
    if newest >= at + spec.transit then
      local back = math.min(amount, w[4][slot])
      w[4][slot], w[1] = w[4][slot] - back, w[1] - back
      return
    end
  end
end
function sliding.free_at(w, spec, amount, now)
  sliding.turn(w, spec, now)
  local excess = w[1] + amount - spec.limit
  if excess <= 0 or amount == 0 then return now end
  for slot, spent in ipairs(w[4]) do
    excess = excess - spent
    if excess <= 0 then return w[3][slot] + spec.span end
  end
  return now + spec.span
end
function sliding.whole_at(w, spec, now)
  sliding.turn(w, spec, now)
  return w[1] > 0 and w[3][#w[3]] + spec.span or now
end

local fixed = {}  -- {used, since, ends, late}
kinds.fixed = fixed
function fixed.new() return {0, 0, 0, 0} end
function fixed.turn(w, spec, now)
  if now < w[3] then return end
  w[1] = now < w[3] + spec.span and w[4] or 0
  w[4], w[2] = 0, now
  local ends = spec.ends
  if ends == 0 then
    ends = (math.floor((now + spec.base) / spec.span) + 1) * spec.span - spec.base
  elseif ends <= now then
    ends = ends + (math.floor((now - ends) / spec.span) + 1) * spec.span
  end
  w[3] = ends
end
function fixed.used(w) return w[1] end
function fixed.spend(w, spec, amount, now)
  fixed.turn(w, spec, now)
  w[1] = w[1] + amount
  if now >= w[3] - spec.transit then w[4] = w[4] + amount end
end
function fixed.refund(w, spec, amount, now, at)
  fixed.turn(w, spec, now)
  if at < w[2] then return end
  w[1] = math.max(0, w[1] - amount)
end
function fixed.free_at(w, spec, amount, now)
  fixed.turn(w, spec, now)
  return (w[1] + amount <= spec.limit or amount == 0) and now or w[3]
end
function fixed.whole_at(w, spec, now)
  fixed.turn(w, spec, now)
  return w[1] > 0 and w[3] or now
end

local function remaining(w, spec, now)
  local kind = kinds[spec.kind]
  kind.turn(w, spec, now)
  return math.max(0, math.floor(spec.limit - kind.used(w)))
end
"""
