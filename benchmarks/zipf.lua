-- wrk script: POST /transform with 10,000 queries of Zipf's popularity (the k-th likeliest: ~1/k).
local letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
local requests, cumulative, total = {}, {}, 0

function init()
  math.randomseed(1)
  for rank = 1, 10000 do
    local query = {}
    for i = 1, 5 do
      local at = math.random(1, 52)
      query[i] = letters:sub(at, at)
    end
    local body = '{"query":"' .. table.concat(query) .. '"}'
    requests[rank] =
      wrk.format("POST", "/transform", { ["Content-Type"] = "application/json" }, body)
    total = total + 1 / rank
    cumulative[rank] = total
  end
  math.randomseed(os.time())
end

function request()
  local drawn, low, high = math.random() * total, 1, 10000
  while low < high do
    local middle = math.floor((low + high) / 2)
    if cumulative[middle] < drawn then low = middle + 1 else high = middle end
  end
  return requests[low]
end
