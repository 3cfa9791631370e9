"""products.py: one function for each kind of product. Each draws it with its proportions taken from `r` (random.Random),
so that two mugs are two different mugs. Returns the Drawing and the ellipse of its shadow."""

from drawing import Drawing, METALS, WOODS, shade

FLOOR = (200, 352, 120, 14)
HANGING = (200, 372, 95, 9)


# ---- clothes: laid flat or hanging, seen from the front ------------------------------------------------------

def tshirt(d, r):
    w, sleeve, hem = r.uniform(72, 92), r.uniform(40, 95), r.uniform(300, 345)
    neck = r.choice(["round", "v"])
    l, rt = 200 - w, 200 + w
    dip = 46 if neck == "v" else 26
    neckline = f"L200 {72 + dip}" if neck == "v" else f"Q200 {72 + dip * 1.5} "
    back = "L228 66" if neck == "v" else "228 66"
    d.shape(f"M172 66 {neckline} {back} L{rt + 6} 84 L{rt + 24 + sleeve * .35} {92 + sleeve} L{rt + 2} {106 + sleeve} "
            f"L{rt - 6} 150 L{rt} {hem} Q200 {hem + 10} {l} {hem} L{l + 6} 150 L{l - 2} {106 + sleeve} "
            f"L{l - 24 - sleeve * .35} {92 + sleeve} L{l - 6} 84 Z")
    d.line(f"M{l + 4} {hem - 8} Q200 {hem + 2} {rt - 4} {hem - 8}", width=1.2, dash="4 3")
    d.line(f"M{l + 6} 150 Q{l + 14} 122 {l + 4} 92 M{rt - 6} 150 Q{rt - 14} 122 {rt - 4} 92", width=1.5, opacity=.7)
    return HANGING


def dress(d, r):
    waist, flare, hem = r.uniform(38, 50), r.uniform(80, 140), r.uniform(310, 360)
    straps = r.random() < .5
    top = 108 if straps else 78
    if straps:
        d.line(f"M165 {top} L172 62 M235 {top} L228 62", d.colour, 7)
        d.shape(f"M158 {top} Q200 {top + 22} 242 {top} L{200 + waist} 182 L{200 + flare} {hem} "
                f"Q200 {hem + 16} {200 - flare} {hem} L{200 - waist} 182 Z")
    else:
        s = r.uniform(20, 70)
        d.shape(f"M172 62 Q200 92 228 62 L262 {top} L{276 + s * .3:.0f} {top + 40 + s:.0f} L{254 + s * .2:.0f} {top + 46 + s:.0f} L248 130 "
                f"L{200 + waist} 182 L{200 + flare} {hem} Q200 {hem + 16} {200 - flare} {hem} L{200 - waist} 182 L152 130 "
                f"L{146 - s * .2:.0f} {top + 46 + s:.0f} L{124 - s * .3:.0f} {top + 40 + s:.0f} L138 {top} Z")
    d.shape(f"M{200 - waist} 178 H{200 + waist} V190 H{200 - waist} Z", fill=shade(d.colour, .7))
    for k in (-.5, -.15, .2, .55):
        d.line(f"M{200 + k * waist:.0f} 194 Q{200 + k * flare * .8:.0f} 250 {200 + k * flare * 1.2:.0f} {hem - 6:.0f}", width=1.4, opacity=.5)
    return HANGING


def trousers(d, r):
    waist, leg, hem = r.uniform(52, 62), r.choice([18, 26, 34, 46]), r.choice([215, 345, 355, 360])
    gap = r.uniform(8, 22)
    d.shape(f"M{200 - waist} 62 H{200 + waist} L{200 + waist + 14} 150 L{200 + gap + leg * 2} {hem} H{200 + gap} L200 170 "
            f"L{200 - gap} {hem} H{200 - gap - leg * 2} L{200 - waist - 14} 150 Z")
    d.shape(f"M{200 - waist} 60 H{200 + waist} V76 H{200 - waist} Z", fill=shade(d.colour, .75))
    d.line(f"M200 78 V168 M{200 - waist} 82 Q{210 - waist} 110 {194 - waist} 118 M{200 + waist} 82 Q{190 + waist} 110 {206 + waist} 118", width=1.6)
    d.disc(200, 69, 3.5, "#c8a24c")
    return HANGING


def hoodie(d, r):
    w, hem = r.uniform(78, 92), r.uniform(300, 330)
    l, rt = 200 - w, 200 + w
    d.shape(f"M150 92 L{l - 10} 112 L{l - 52} {hem - 16} L{l - 22} {hem - 8} L{l + 4} 180 L{l} {hem} Q200 {hem + 12} {rt} {hem} "
            f"L{rt - 4} 180 L{rt + 22} {hem - 8} L{rt + 52} {hem - 16} L{rt + 10} 112 L250 92 Z")
    d.shape("M150 96 Q146 44 200 42 Q254 44 250 96 Q200 132 150 96 Z", fill=shade(d.colour, .88))
    d.shape("M166 92 Q164 62 200 60 Q236 62 234 92 Q200 116 166 92 Z", fill=shade(d.colour, .5))
    d.shape(f"M150 {hem - 92} H250 L268 {hem - 34} H132 Z", fill=shade(d.colour, .9))
    d.line(f"M188 112 V{160 + r.randrange(30)} M212 112 V{166 + r.randrange(30)}", "#f4f2ec", 3.2)
    if r.random() < .5:
        d.line(f"M200 116 V{hem + 4}", "#b9bec4", 3, dash="2 2")
    d.line(f"M{l + 2} {hem - 14} Q200 {hem - 2} {rt - 2} {hem - 14}", width=2)
    return HANGING


def coat(d, r):
    w, hem, flare = r.uniform(70, 84), r.uniform(335, 362), r.uniform(0, 26)
    l, rt = 200 - w, 200 + w
    d.shape(f"M162 58 L{l - 6} 82 L{l - 40} 262 L{l - 10} 270 L{l + 6} 170 L{l - flare} {hem} H{rt + flare} L{rt - 6} 170 "
            f"L{rt + 10} 270 L{rt + 40} 262 L{rt + 6} 82 L238 58 L200 120 Z")
    d.shape("M162 58 L146 96 L180 108 L172 132 L200 176 L228 132 L220 108 L254 96 L238 58 L200 104 Z", fill=shade(d.colour, .8))
    d.line(f"M200 176 V{hem}", width=2.2)
    for y in range(190, int(hem) - 40, 38):
        d.disc(212, y, 4.5, shade(d.colour, .45))
        if r.random() < .9 and w > 76: d.disc(188, y, 4.5, shade(d.colour, .45))
    if r.random() < .55:
        d.shape(f"M{l + 4} 204 H{rt - 4} V222 H{l + 4} Z", fill=shade(d.colour, .65))
    d.line(f"M{l + 14} 246 L{l + 44} 238 M{rt - 14} 246 L{rt - 44} 238", width=3)
    return HANGING


def skirt(d, r):
    waist, flare, hem = r.uniform(50, 60), r.uniform(62, 135), r.choice([240, 285, 335])
    d.shape(f"M{200 - waist} 92 H{200 + waist} Q{206 + flare * .8:.0f} 170 {200 + flare} {hem} Q200 {hem + 22} {200 - flare} {hem} Q{194 - flare * .8:.0f} 170 {200 - waist} 92 Z")
    d.shape(f"M{200 - waist} 84 H{200 + waist} V102 H{200 - waist} Z", fill=shade(d.colour, .72))
    n = r.choice([0, 4, 9])
    for i in range(1, n + 1):
        k = 2 * i / (n + 1) - 1
        d.line(f"M{200 + k * waist:.0f} 104 Q{200 + k * flare * .85:.0f} 170 {200 + k * flare:.0f} {hem + 12 * (1 - k * k):.0f}", width=1.6, opacity=.6)
    return (200, 372, 90, 8)


# ---- shoes: from the side, toe to the left -------------------------------------------------------------------

def sneaker(d, r):
    top, sole = r.uniform(150, 196), r.choice(["#f4f2ec", "#f4f2ec", "#d8c3a0", "#2b2b2f"])
    high = r.random() < .4
    if high: top -= 36
    d.shape(f"M66 296 Q60 258 104 248 Q150 238 176 206 L206 {top} Q250 {top + 18} 292 {top - 4} Q304 {top + 50} 322 {top + 76 if high else top + 60} "
            f"Q340 262 338 296 Z")
    d.shape("M56 292 H342 Q350 316 336 324 H76 Q52 320 56 292 Z", fill=sole)
    d.shape("M66 294 Q60 258 104 248 Q122 262 124 294 Z", fill=shade(d.colour, 1.25) if d.colour != "#f4f2ec" else "#dcd9d0")
    for i in range(5 if high else 4):
        x, y = 160 + i * 13, 234 - i * (15 if high else 12)
        d.line(f"M{x} {y} L{x + 26} {y + 14}", "#faf8f2" if d.colour != "#f4f2ec" else "#8d9196", 4.5)
    d.line(f"M196 290 Q236 286 262 {240 - r.randrange(26)} L286 290", d.second, r.choice([6, 10, 0.1]))
    d.line("M60 306 H340", shade(sole, .75), 1.6)
    return (200, 328, 150, 10)


def boot(d, r):
    top, heel = r.uniform(76, 170), r.choice([6, 14, 34])
    s = "#3a2c22"
    d.shape(f"M72 300 Q66 262 112 254 Q164 246 178 214 L176 {top} Q226 {top - 12} 274 {top} L276 228 Q290 262 288 300 Z")
    d.shape(f"M62 296 H288 V{306 + heel} H232 L222 312 H74 Q58 312 62 296 Z", fill=s)
    d.shape(f"M174 {top} Q226 {top - 14} 276 {top} V{top + 18} Q226 {top + 6} 174 {top + 18} Z", fill=shade(d.colour, .7))
    if r.random() < .5:
        for y in range(int(top) + 34, 238, 24):
            d.line(f"M178 {y} L214 {y + 8} M178 {y + 10} L214 {y - 4}", "#e8dcc0", 3)
    else:
        d.line(f"M250 {top + 20} V286", "#b9bec4", 3)
    return (180, 324 + heel * .4, 130, 9)


def heel(d, r):
    h = r.uniform(60, 118)
    y = 318 - h
    strap = r.random() < .45
    d.shape(f"M66 312 Q76 292 118 290 Q190 280 262 {y + 10:.0f} Q302 {y - 14:.0f} 318 {y - 34:.0f} Q336 {y + 14:.0f} 314 {y + 40:.0f} Q262 {y + 34:.0f} 196 308 "
            f"Q150 322 66 318 Z")
    d.shape(f"M294 {y + 36:.0f} L320 {y + 26:.0f} L312 320 H302 Z", fill=shade(d.colour, .8))
    d.shape(f"M66 312 Q76 290 120 288 Q152 292 176 {300 - h * .12:.0f} Q140 318 66 318 Z")
    if strap:
        d.line(f"M316 {y - 30:.0f} Q276 {y - 66:.0f} 236 {y - 18:.0f} Q226 {y + 8:.0f} 240 {y + 20:.0f}", d.colour, 7)
        d.disc(240, round(y - 20), 5, "#c8a24c")
    return (196, 324, 140, 7)


def sandal(d, r):
    n, sole = r.choice([2, 3, 4]), r.choice(["#b78a58", "#3a2c22", "#d8c3a0"])
    thick = r.uniform(14, 34)
    d.shape(f"M62 {300 - thick:.0f} Q56 {292 - thick:.0f} 88 {290 - thick:.0f} Q200 {282 - thick:.0f} 330 {276 - thick:.0f} Q346 296 336 306 H78 Q56 306 62 {300 - thick:.0f} Z", fill=sole)
    for i in range(n):
        x = 92 + i * 46
        y = 286 - thick
        d.shape(f"M{x} {y:.0f} Q{x + 24} {y - 74 - i * 5:.0f} {x + 62} {y - 8:.0f} L{x + 42} {y - 4:.0f} Q{x + 24} {y - 46 - i * 4:.0f} {x + 22} {y:.0f} Z")
    if r.random() < .6:
        d.shape(f"M296 {278 - thick:.0f} Q284 {206 - thick:.0f} 322 {196 - thick:.0f} Q346 {216 - thick:.0f} 334 {276 - thick:.0f} L318 {277 - thick:.0f} Q330 {226 - thick:.0f} 318 {220 - thick:.0f} Q304 {226 - thick:.0f} 314 {278 - thick:.0f} Z")
    return (200, 312, 140, 9)


# ---- bags ----------------------------------------------------------------------------------------------------

def tote(d, r):
    w, top, drop = r.uniform(84, 112), r.uniform(150, 180), r.uniform(60, 100)
    d.line(f"M{200 - w * .5:.0f} {top + 6:.0f} C{200 - w * .5:.0f} {top - drop:.0f} {200 + w * .5:.0f} {top - drop:.0f} {200 + w * .5:.0f} {top + 6:.0f}", shade(d.colour, .7), 10)
    d.shape(f"M{200 - w:.0f} {top:.0f} H{200 + w:.0f} L{200 + w * .9:.0f} 344 Q200 354 {200 - w * .9:.0f} 344 Z")
    d.line(f"M{202 - w:.0f} {top + 12:.0f} H{198 + w:.0f}", width=1.4, dash="4 3")
    if r.random() < .4:
        d.shape(f"M{200 - w * .45:.0f} {top + 56:.0f} H{200 + w * .45:.0f} V{top + 122:.0f} H{200 - w * .45:.0f} Z", fill=shade(d.colour, .85))
    return FLOOR


def backpack(d, r):
    w, top, round_ = r.uniform(76, 94), r.uniform(86, 116), r.uniform(40, 80)
    d.line(f"M176 {top + 8:.0f} Q200 {top - 40:.0f} 224 {top + 8:.0f}", shade(d.colour, .6), 9)
    d.shape(f"M{200 - w - 16:.0f} 250 Q{200 - w - 24:.0f} 320 {200 - w:.0f} 336 V236 Z M{200 + w + 16:.0f} 250 Q{200 + w + 24:.0f} 320 {200 + w:.0f} 336 V236 Z", fill=shade(d.colour, .7))
    d.shape(f"M{200 - w:.0f} 340 V{top + round_:.0f} Q{200 - w:.0f} {top:.0f} 200 {top:.0f} Q{200 + w:.0f} {top:.0f} {200 + w:.0f} {top + round_:.0f} V340 Q200 354 {200 - w:.0f} 340 Z")
    d.shape(f"M{214 - w:.0f} 336 V250 Q200 226 {186 + w:.0f} 250 V336 Q200 346 {214 - w:.0f} 336 Z", fill=shade(d.colour, .86))
    d.line(f"M{220 - w:.0f} 262 Q200 242 {180 + w:.0f} 262", "#e8dcc0", 3)
    d.line(f"M{212 - w:.0f} {top + round_ + 20:.0f} Q200 {top + 6 + round_ * .5:.0f} {188 + w:.0f} {top + round_ + 20:.0f}", "#e8dcc0", 2.4)
    d.shape("M188 176 H212 V196 H188 Z", fill="#82563a")
    return FLOOR


def handbag(d, r):
    w, top, wide = r.uniform(92, 126), r.uniform(190, 222), r.uniform(.8, 1.05)
    metal = r.choice(list(METALS.values()))
    d.line(f"M{200 - w * .55:.0f} {top + 8:.0f} C{200 - w * .5:.0f} {top - 110:.0f} {200 + w * .5:.0f} {top - 110:.0f} {200 + w * .55:.0f} {top + 8:.0f}", shade(d.colour, .72), 9)
    d.shape(f"M{200 - w * wide:.0f} {top:.0f} Q200 {top - 12:.0f} {200 + w * wide:.0f} {top:.0f} L{200 + w:.0f} 330 Q200 350 {200 - w:.0f} 330 Z")
    if r.random() < .6:
        d.shape(f"M{200 - w * wide:.0f} {top:.0f} Q200 {top - 12:.0f} {200 + w * wide:.0f} {top:.0f} L{200 + w * .9:.0f} {top + 56:.0f} Q200 {top + 92:.0f} {200 - w * .9:.0f} {top + 56:.0f} Z", fill=shade(d.colour, .88))
    d.shape(f"M186 {top + 58:.0f} H214 V{top + 82:.0f} H186 Z", fill=metal)
    d.disc(round(200 - w * .55), round(top + 10), 6, metal)
    d.disc(round(200 + w * .55), round(top + 10), 6, metal)
    return FLOOR


# ---- furniture: three-quarter front view ----------------------------------------------------------------------

def chair(d, r):
    wood = r.choice(list(WOODS.values()) + ["#2b2b2f"])
    back, slats = r.uniform(74, 116), r.choice([0, 3, 5])
    for x in (150, 262): d.bar(x, 250, x + (6 if x > 200 else -4), 330, 9, shade(wood, .8))
    if slats:
        for x in (142, 258): d.bar(x, back, x, 240, 10, wood)
        d.shape(f"M136 {back:.0f} Q200 {back - 14:.0f} 264 {back:.0f} V{back + 20:.0f} Q200 {back + 6:.0f} 136 {back + 20:.0f} Z", fill=wood)
        for i in range(slats): d.bar(142 + 116 * (i + 1) / (slats + 1), back + 16, 142 + 116 * (i + 1) / (slats + 1), 232, 6, wood)
    else:
        d.shape(f"M140 {back + 26:.0f} Q142 {back:.0f} 200 {back - 4:.0f} Q258 {back:.0f} 260 {back + 26:.0f} L256 226 H144 Z")
    d.shape("M126 232 Q200 216 276 232 L290 262 Q200 276 112 262 Z")
    for x in (124, 280): d.bar(x, 264, x + (8 if x > 200 else -8), 350, 10, wood)
    return (200, 352, 105, 10)


def armchair(d, r):
    back, arm = r.uniform(96, 136), r.uniform(196, 222)
    wing = r.uniform(0, 14)
    d.shape(f"M112 {back + 30:.0f} Q116 {back:.0f} 200 {back - 6:.0f} Q284 {back:.0f} 288 {back + 30:.0f} L{282 + wing:.0f} 280 H{118 - wing:.0f} Z")
    d.shape(f"M120 234 Q200 222 280 234 L284 290 H116 Z", fill="url(#cloth)", depth=.6)
    for s in (-1, 1):
        x = 200 + s * 108
        d.shape(f"M{x - 24} {arm + 12:.0f} Q{x - 24} {arm - 8:.0f} {x} {arm - 8:.0f} Q{x + 24} {arm - 8:.0f} {x + 24} {arm + 12:.0f} L{x + 20} 326 H{x - 20} Z")
    d.shape("M110 286 H290 V326 H110 Z", depth=.8)
    wood = r.choice(list(WOODS.values()))
    for x in (104, 296): d.bar(x, 328, x + (4 if x > 200 else -4), 352, 10, wood)
    return (200, 354, 135, 10)


def sofa(d, r):
    seats, back, arm = r.choice([2, 2, 3]), r.uniform(140, 170), r.uniform(196, 214)
    d.shape(f"M58 {back + 18:.0f} Q60 {back:.0f} 84 {back:.0f} H316 Q340 {back:.0f} 342 {back + 18:.0f} V280 H58 Z")
    w = 264 / seats
    for i in range(seats):
        x = 68 + i * w
        d.shape(f"M{x + 3:.0f} {back + 16:.0f} Q{x + w / 2:.0f} {back + 6:.0f} {x + w - 3:.0f} {back + 16:.0f} V230 H{x + 3:.0f} Z", depth=.7)
        d.shape(f"M{x + 2:.0f} 236 Q{x + w / 2:.0f} 224 {x + w - 2:.0f} 236 V272 Q{x + w / 2:.0f} 280 {x + 2:.0f} 272 Z", depth=.8)
    for x in (36, 330): d.shape(f"M{x} {arm + 12:.0f} Q{x} {arm - 6:.0f} {x + 17} {arm - 6:.0f} Q{x + 34} {arm - 6:.0f} {x + 34} {arm + 12:.0f} V304 H{x} Z")
    d.shape("M66 276 H334 V304 H66 Z", depth=.7)
    wood = r.choice(list(WOODS.values()))
    for x in (52, 348): d.bar(x, 306, x, 330, 9, wood)
    return (200, 332, 175, 9)


def table(d, r):
    top = r.uniform(196, 232)
    thick = r.uniform(9, 18)
    if r.random() < .4: # round, one foot
        d.bar(200, top, 200, 336, 16, shade(d.colour, .8))
        d.shape("M140 346 Q200 318 260 346 Q200 356 140 346 Z", fill=shade(d.colour, .75))
        d.shape(f"M66 {top:.0f} A134 34 0 0 1 334 {top:.0f} V{top + thick:.0f} A134 34 0 0 1 66 {top + thick:.0f} Z")
        d.shape(f"M66 {top:.0f} A134 34 0 0 1 334 {top:.0f} A134 34 0 0 1 66 {top:.0f} Z")
    else:
        for x, b in ((92, 300), (308, 300)): d.bar(x, top, x, b, 10, shade(d.colour, .7))
        for x in (70, 330): d.bar(x, top + 16, x + r.choice([0, 6]) * (1 if x > 200 else -1), 350, 12, shade(d.colour, .9))
        d.shape(f"M96 {top - 34:.0f} H304 L350 {top + 14:.0f} H50 Z")
        d.shape(f"M50 {top + 14:.0f} H350 V{top + 14 + thick:.0f} H50 Z", fill=shade(d.colour, .82))
    return (200, 350, 140, 9)


def lamp(d, r):
    metal = r.choice(list(METALS.values()) + ["#2b2b2f"])
    floor_lamp = r.random() < .5
    sy = 60 if floor_lamp else 120
    narrow, wide, h = r.uniform(30, 60), r.uniform(66, 92), r.uniform(70, 100)
    d.bar(200, sy + h - 6, 200, 340, 8, metal)
    if floor_lamp:
        d.shape("M150 346 Q200 324 250 346 Q200 356 150 346 Z", fill=metal)
    else:
        d.shape("M158 344 Q150 276 200 258 Q250 276 242 344 Q200 354 158 344 Z", fill=r.choice([metal, "#f4f2ec", shade(d.colour, .7)]))
    d.shape(f"M{200 - narrow:.0f} {sy} H{200 + narrow:.0f} L{200 + wide:.0f} {sy + h:.0f} Q200 {sy + h + 14:.0f} {200 - wide:.0f} {sy + h:.0f} Z")
    d.line(f"M{204 - wide:.0f} {sy + h - 5:.0f} Q200 {sy + h + 8:.0f} {196 + wide:.0f} {sy + h - 5:.0f}", "#fff3cf", 3, opacity=.8)
    return (200, 350, 80, 9)


def shelf(d, r):
    w, top, n = r.uniform(66, 116), r.uniform(60, 150), r.choice([2, 3, 4])
    l, rt = 200 - w, 200 + w
    d.shape(f"M{l:.0f} {top:.0f} H{rt:.0f} V346 H{l:.0f} Z", fill=shade(d.colour, .6))
    gap = (336 - top) / n
    for i in range(n):
        y = top + 10 + i * gap
        for x in range(int(l) + 16, int(rt) - 22, r.choice([15, 19, 24])):
            if r.random() < .62:
                h = gap * r.uniform(.45, .8)
                d.shape(f"M{x} {y + gap - 10 - h:.0f} h12 V{y + gap - 10:.0f} h-12 Z", fill=r.choice(["#c6313a", "#3a68b5", "#ecc440", "#4d9358", "#f4f2ec", "#75509b"]))
    for i in range(n + 1):
        y = top + i * gap
        d.shape(f"M{l:.0f} {y:.0f} H{rt:.0f} V{y + 10:.0f} H{l:.0f} Z")
    for x in (l, rt - 10): d.shape(f"M{x:.0f} {top:.0f} h10 V350 h-10 Z")
    return (200, 352, w + 20, 8)


# ---- kitchenware -----------------------------------------------------------------------------------------------

def ring(cx, cy, rx, ry):
    return f"M{cx - rx:.0f} {cy:.0f} A{rx:.0f} {ry:.0f} 0 0 1 {cx + rx:.0f} {cy:.0f} A{rx:.0f} {ry:.0f} 0 0 1 {cx - rx:.0f} {cy:.0f} Z"


def mug(d, r):
    w, top, taper = r.uniform(64, 88), r.uniform(130, 190), r.choice([.72, .86, 1.0, 1.06])
    x = 186
    b = w * taper
    d.line(f"M{x + w - 4:.0f} {top + 40:.0f} C{x + w + 70:.0f} {top + 26:.0f} {x + w + 66:.0f} 318 {x + b - 6:.0f} 300", shade(d.colour, .72), 19)
    d.line(f"M{x + w - 4:.0f} {top + 40:.0f} C{x + w + 70:.0f} {top + 26:.0f} {x + w + 66:.0f} 318 {x + b - 6:.0f} 300", d.colour, 15)
    d.shape(f"M{x - w:.0f} {top:.0f} L{x - b:.0f} 322 Q{x} 352 {x + b:.0f} 322 L{x + w:.0f} {top:.0f} Z")
    d.shape(ring(x, top, w, w * .2), fill=shade(d.colour, .8))
    d.shape(ring(x, top + 3, w * .88, w * .15), fill=r.choice(["#4a2d1c", "#efe9dc", shade(d.colour, .5)]))
    return (206, 340, 105, 11)


def pot(d, r):
    w, top = r.uniform(94, 118), r.uniform(186, 232)
    for s in (-1, 1): d.line(f"M{200 + s * (w - 4):.0f} {top + 26:.0f} q{s * 40} -4 {s * 34} 22 q{-s * 4} 12 {-s * 34} 10", shade(d.colour, .55), 9)
    d.shape(f"M{200 - w:.0f} {top:.0f} L{206 - w:.0f} 322 Q200 350 {194 + w:.0f} 322 L{200 + w:.0f} {top:.0f} Z")
    if r.random() < .7:
        d.shape(f"M{194 - w:.0f} {top + 2:.0f} Q200 {top - 74:.0f} {206 + w:.0f} {top + 2:.0f} Q200 {top + 28:.0f} {194 - w:.0f} {top + 2:.0f} Z", fill=shade(d.colour, 1.08))
        d.disc(200, round(top - 42), 12, "#2b2b2f")
    else:
        d.shape(ring(200, top, w, w * .2), fill=shade(d.colour, .6))
    return (200, 342, 125, 11)


def pan(d, r):
    w, deep = r.uniform(92, 112), r.uniform(20, 48)
    cy = 240
    handle = r.choice(["#2b2b2f", WOODS["oak"], METALS["steel"]])
    d.bar(150 + w - 8, cy - 6, 384, cy - r.uniform(20, 64), 16, handle)
    d.shape(f"M{150 - w:.0f} {cy} L{166 - w:.0f} {cy + deep:.0f} Q150 {cy + deep + 34:.0f} {134 + w:.0f} {cy + deep:.0f} L{150 + w:.0f} {cy} Z")
    d.shape(ring(150, cy, w, w * .3), fill=shade(d.colour, .9))
    d.shape(ring(150, cy + 5, w * .9, w * .25), fill="#3a3a3e" if r.random() < .7 else METALS["steel"])
    return (165, 300, 130, 12)


def kettle(d, r):
    w, top = r.uniform(78, 98), r.uniform(166, 192)
    d.line(f"M{200 - w * .6:.0f} {top + 10:.0f} C{190 - w * .6:.0f} {top - 108:.0f} {210 + w * .6:.0f} {top - 108:.0f} {200 + w * .6:.0f} {top + 10:.0f}", "#2b2b2f", 12)
    d.shape(f"M{200 + w * .8:.0f} 262 Q{200 + w + 34:.0f} 246 {200 + w + 44:.0f} {top + 6:.0f} L{200 + w + 64:.0f} {top + 2:.0f} Q{200 + w + 58:.0f} 280 {200 + w * .86:.0f} 306 Z")
    d.shape(f"M{200 - w * .62:.0f} {top:.0f} Q{194 - w:.0f} 240 {196 - w:.0f} 318 Q200 352 {204 + w:.0f} 318 Q{206 + w:.0f} 240 {200 + w * .62:.0f} {top:.0f} Z")
    d.shape(f"M{196 - w * .62:.0f} {top + 2:.0f} Q200 {top - 38:.0f} {204 + w * .62:.0f} {top + 2:.0f} Q200 {top + 18:.0f} {196 - w * .62:.0f} {top + 2:.0f} Z", fill=shade(d.colour, .85))
    d.disc(200, round(top - 24), 9, r.choice(["#2b2b2f", WOODS["oak"]]))
    return (214, 342, 120, 10)


def plate(d, r):
    rad = r.uniform(116, 140)
    d.shape(ring(200, 206, rad, rad * .98), depth=.8)
    rim = r.uniform(.62, .74)
    d.shape(ring(200, 206, rad * rim, rad * rim * .98), fill=r.choice([shade(d.colour, 1.06), "#f4f2ec", shade(d.colour, .9)]), depth=.5)
    if r.random() < .7:
        d.line(ring(200, 206, rad * .93, rad * .91), d.second, r.choice([2, 4, 7]))
    return (208, 330, 128, 16)


def bowl(d, r):
    w, top, foot = r.uniform(96, 128), r.uniform(186, 222), r.uniform(34, 54)
    d.shape(f"M{200 - foot:.0f} 318 H{200 + foot:.0f} L{206 + foot:.0f} 338 Q200 346 {194 - foot:.0f} 338 Z", fill=shade(d.colour, .75))
    d.shape(f"M{200 - w:.0f} {top:.0f} Q{204 - w:.0f} 322 200 326 Q{196 + w:.0f} 322 {200 + w:.0f} {top:.0f} Z")
    d.shape(ring(200, top, w, w * .24), fill=shade(d.colour, .82))
    d.shape(ring(200, top + 5, w * .9, w * .18), fill=shade(d.colour, r.choice([.55, 1.12])))
    return (200, 344, 105, 10)


# (kind, function, shop category, has cloth patterns, price range)
PRODUCTS = [
    ("t-shirt", tshirt, "clothes", True, (9, 35)), ("dress", dress, "clothes", True, (29, 120)),
    ("trousers", trousers, "clothes", True, (25, 90)), ("hoodie", hoodie, "clothes", False, (29, 80)),
    ("coat", coat, "clothes", True, (79, 260)), ("skirt", skirt, "clothes", True, (19, 75)),
    ("sneaker", sneaker, "shoes", False, (39, 140)), ("boot", boot, "shoes", False, (69, 220)),
    ("heel", heel, "shoes", False, (49, 180)), ("sandal", sandal, "shoes", False, (19, 80)),
    ("tote", tote, "bags", True, (12, 60)), ("backpack", backpack, "bags", False, (35, 140)),
    ("handbag", handbag, "bags", False, (49, 320)),
    ("chair", chair, "furniture", False, (45, 190)), ("armchair", armchair, "furniture", True, (180, 640)),
    ("sofa", sofa, "furniture", True, (390, 1600)), ("table", table, "furniture", False, (90, 700)),
    ("lamp", lamp, "furniture", False, (25, 180)), ("shelf", shelf, "furniture", False, (40, 260)),
    ("mug", mug, "kitchen", True, (5, 22)), ("pot", pot, "kitchen", False, (25, 140)),
    ("pan", pan, "kitchen", False, (19, 110)), ("kettle", kettle, "kitchen", False, (25, 95)),
    ("plate", plate, "kitchen", True, (6, 30)), ("bowl", bowl, "kitchen", True, (6, 35)),
]
