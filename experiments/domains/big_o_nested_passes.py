"""Families of the class O(n^2), as templates (big_o_template)."""

from __future__ import annotations

from experiments.domains.big_o_template import Family

FAMILIES = (
    Family(
        "O(n^2)",
        "all_pairs",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = «0|#|XS[0]»
    @index I in XS:
        «for J in range(I):|for J in range(I + 1, len(XS)):|for J in range(len(XS)):|for J in range(len(XS) - 1, I, -1):»
            @fold T by «XS[I] * XS[J]|XS[I] - XS[J]|abs(XS[I] - XS[J])|XS[I] ^ XS[J]»
    @give T
""",
            """
def F(XS):
    T = «0|#»
    @each X in XS:
        @each Y in XS:
            @fold T by «X * Y|X - Y|abs(X - Y)|X % (abs(Y) + 1)»
    @give T
""",
        ),
    ),
    Family(
        "O(n^2)",
        "grid",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    @times I in N:
        @times J in «N|I|N - I|N // #|I + #»:
            @fold T by «I * J|I + J|I ^ J|J % #|N - J»
    @give T
""",
        ),
    ),
    Family(
        "O(n^2)",
        "neighbour_swaps",
        "list",
        (
            """
def F(XS):
    T = «0|#»
    @times I in len(XS):
        for J in range(1, len(XS)«| - I»):
            if XS[J - 1] «<|>|>=» XS[J]:
                «XS[J - 1], XS[J] = XS[J], XS[J - 1]|A = XS[J]
                XS[J] = XS[J - 1]
                XS[J - 1] = A»
                «T += 1|T += J|T = max(T, J)|T ^= J|T -= #»
    «return XS|return T|return T + len(XS)|return XS[len(XS) // 2] - T»
""",
            """
def F(XS):
    A«, T = True, 0| = True
    T = #»
    while A:
        A = False
        for I in range(len(XS) - 1):
            if XS[I] «<|>» XS[I + 1]:
                XS[I], XS[I + 1] = XS[I + 1], XS[I]
                A = True
        «T += 1|T += XS[0]|T = max(T, XS[-1])|T -= #»
    «return XS|return T|return T * #|return XS[0] + T»
""",
        ),
    ),
    Family(
        "O(n^2)",
        "sink_back",
        "list",
        (
            """
def F(XS):
    T = «0|#»
    for I in range(1, len(XS)):
        J = I
        while J > 0 and XS[J - 1] «<|>» XS[J]:
            «XS[J - 1], XS[J] = XS[J], XS[J - 1]|A = XS[J]
            XS[J] = XS[J - 1]
            XS[J - 1] = A»
            J -= 1
        «T += J|T = max(T, I - J)|T ^= J|T += XS[J]»
    «return XS|return T|return T - #|return XS[-1] + T»
""",
            """
def F(XS):
    T = «0|#»
    for I in range(1, len(XS)):
        A, J = XS[I], I - 1
        while J >= 0 and XS[J] «<|>» A:
            XS[J + 1] = XS[J]
            J -= 1
            «T += 1|T += J|T = max(T, A)|T -= A|»
        XS[J + 1] = A
    «return XS|return T|return XS[0] - T|return XS[len(XS) // 2]»
""",
        ),
    ),
    Family(
        "O(n^2)",
        "pick_next",
        "list",
        (
            """
def F(XS):
    «T = 0
    |»@index I in XS:
        A = I
        for J in «range(I + 1, len(XS))|range(I)|range(len(XS))»:
            if XS[J] «<|>|<=» XS[A]:
                A = J
        «XS[I], XS[A] = XS[A], XS[I]|B = XS[I]
        XS[I] = XS[A]
        XS[A] = B»
    «return XS|return XS[0]|return XS[-1] - XS[0]|return XS[len(XS) // 2]|return XS[:#]»
""",
            """
def F(XS):
    YS, T = [], «0|#»
    while XS:
        A = «min(XS)|max(XS)»
        XS.remove(A)
        «YS.append(A)|YS.append(A - T)
        T = A|YS.append(A)
        T += A % #»
    «return YS|return YS[-1]|return T|return len(YS) + T»
""",
        ),
    ),
    Family(
        "O(n^2)",
        "seek_each_in_list",
        "list",
        (
            """
def F(XS):
    T = «0|#»
    @each X in XS:
        «if X + len(XS) in XS:|if -X in XS:|if XS.count(X) > 1:|if XS.count(-X) == 0:|if X * len(XS) not in XS:»
            «T += 1|T += X|T ^= X|T -= #»
        «T += XS.index(X)|T = max(T, XS.count(X - #))|if X + # not in XS:
            T -= 1|T += XS.index(X) % #»
    @give T
""",
            """
def F(XS):
    YS = []
    @each X in XS:
        «if X not in YS:
            YS.append(X)|if X in YS:
            YS.append(#)
        else:
            YS.append(X)|if YS.count(X) «== 0|< #»:
            YS.append(X)|if -X not in YS:
            YS.append(X«| + #»)»
    «return YS|return len(YS)|return len(XS) - len(YS)|return sum(YS)|return YS[-1]»
""",
        ),
    ),
    Family(
        "O(n^2)",
        "shift_all",
        "list",
        (
            """
def F(XS):
    YS = []
    @each X in XS:
        «YS.insert(0, X«| % ##| + #»)|YS = [X«| * #»] + YS|YS = YS + [X«| - #»]|YS = YS[:] + [X]»
    «return YS|return YS[0]|return YS[-1] - YS[0]|return YS[len(YS) // 2]|return len(YS)»
""",
            """
def F(XS):
    T = «0|#»
    while «XS|len(XS) > 0|len(XS) > 1»:
        «X = XS.pop(0)|X, XS = XS[0], XS[1:]|X, XS = XS[-1], XS[:-1]|X = XS[0]
        XS = XS[1:]»
        @fold T by «X|X % #|X * X|X - #»
    @give T
""",
        ),
    ),
    Family(
        "O(n^2)",
        "sum_up_again",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = «0|#»
    @index I in XS:
        A = «sum(XS[:I + 1])|max(XS[I:])|min(XS[:I + 1])|sum(XS[I:])|len(set(XS[:I]))|sum(XS) - XS[I]»
        @fold T by «A|A - XS[I]|A % ##|A * I»
    @give T
""",
        ),
    ),
    Family(
        "O(n^2)",
        "table_of_steps",
        "int",
        (
            """
def F(N):
    @check N
    YS = [[«0|1|#|I»] * N for I in range(N)]
    for I in range(1, N):
        for J in range(1, N):
            YS[I][J] = «YS[I - 1][J] + YS[I][J - 1]|max(YS[I - 1][J], YS[I][J - 1]) + I|(YS[I - 1][J - 1] + J) % ##|YS[I - 1][J] ^ J»
    «return YS[-1][-1]|return YS[N // 2][0]|return sum(YS[-1])|return max(YS[N - 1])»
""",
        ),
    ),
    Family(
        "O(n^2)",
        "best_before",
        "list",
        (
            """
def F(XS):
    @guard XS
    YS = [«1|#|0»] * len(XS)
    for I in range(len(XS)):
        for J in range(«I|I - 1, -1, -1»):
            if XS[J] «<|>|<=» XS[I]«| - #»:
                YS[I] = «max(YS[I], YS[J] + 1)|max(YS[I], YS[J] + XS[I])|YS[I] + YS[J] % ##|max(YS[I], YS[J] + I - J)»
    «return max(YS)|return YS[-1]|return YS|return YS[len(YS) // 2] + YS[0]»
""",
        ),
    ),
    Family(
        "O(n^2)",
        "pair_for_goal",
        "search",
        (
            """
def F(XS, A):
    for I in range(len(XS)):
        for J in range(«I + 1, len(XS)|I»):
            if «XS[I] + XS[J]|XS[I] * XS[J]|abs(XS[I] - XS[J])|XS[J] - XS[I]|XS[I] + XS[J] * #» == A:
                return «I|True|[I, J]|XS[I]|J - I»
    return «-1|False|None|[]|#»
""",
            """
def F(XS, A):
    T = «0|#»
    @each X in XS:
        @each Y in XS:
            «if X + Y «==|<|>» A:|if abs(X - Y) «==|<|>» A:|if X * Y «==|<|>» A:»
                «T += 1|T += X|T = max(T, X + Y)|T -= Y»
    @give T
""",
        ),
    ),
    Family(
        "O(n^2)",
        "shorter_each_time",
        "int",
        (
            """
def F(N):
    if N «<= 0|<= 1|< 2»:
        return «0|1|#|N»
    T = «0|#|N»
    @times I in N:
        @fold T by «I|I * I|N - I|I % #|I ^ N»
    «return T + F(N - 1)|return F(N - 1) - T|return max(T, F(N - 1))|A = F(N - 1)
    return A ^ T|return T - F(N - 2)»
""",
        ),
        deep=True,
    ),
    Family(
        "O(n^2)",
        "rest_of_list",
        "list",
        (
            """
def F(XS):
    if «not XS|len(XS) < 2|len(XS) == 0»:
        return #
    A = «max(XS)|sum(XS)|min(XS)|XS[0]|XS[-1] * #|len(set(XS))»
    «return A + F(XS[1:])|return F(XS[:-1]) - A|return max(A, F(XS[1:]))|B = F(XS[1:])
    return A if A % # > # else B + #»
""",
        ),
        deep=True,
    ),
    Family(
        "O(n^2)",
        "up_to_square",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    @times I in N * N«| // #| + N»:
        @fold T by «I|I % N|I // N|I ^ N|I % #»
    @give T
""",
            """
def F(N):
    @check N
    T, I, J = «0|#», 0, 0
    while I < N:
        @fold T by «I|J|I * J|I + J»
        J += 1
        if J «>=|==» «N|N - 1»:
            I, J = I + 1, «0|0|I % #»
    @give T
""",
        ),
    ),
    Family(
        "O(n^2)",
        "pairs_in_one_line",
        "list",
        (
            """
def F(XS):
    @guard XS
    YS = «[X * Y for X in XS for Y in XS]|[X - Y for X in XS for Y in XS if X «<|>» Y]|[abs(X - Y) for X in XS for Y in XS]|[X ^ Y for X in XS for Y in reversed(XS)]»
    «return len(YS)|return sum(YS)|return max(YS)|return min(YS) + #|return YS.count(#)»
""",
            """
def F(XS):
    T = «sum(X «<|>» Y for X in XS for Y in XS)|sum(1 for I in range(len(XS)) for J in range(I) if XS[J] «<|>» XS[I])|sum(X % (abs(Y) + 1) for X in XS for Y in XS)»
    «if T > ##:
        T -= #
    |T *= #
    |»@give T
""",
        ),
    ),
)
