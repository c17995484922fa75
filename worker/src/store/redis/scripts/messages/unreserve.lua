-- Gives back what was counted of a connection, if one is named. Returns how much is counted of all.

if connection ~= '' then
    give_back(connection)
end
return sum_of('all')
