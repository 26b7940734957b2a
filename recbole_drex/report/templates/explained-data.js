// Unpacks explanations from recbole_drex/report/pages/explanations.py and restores omitted empty values.

const scaled = (whole, unit) => (whole == null ? null : whole / unit);

// Marks have positions in characters, but JavaScript strings count some characters, such as emoji, twice.
const unpackQuote = ({ text, positions = [], attention = [], delta = [], sentiment = [] }) => {
  const characters = Array.from(text), pieces = [];
  let at = 0;
  for (let mark = 0; 2 * mark < positions.length; mark += 1) {
    const start = at + positions[2 * mark], end = start + positions[2 * mark + 1];
    pieces.push({ text: characters.slice(at, start).join("") });
    pieces.push({
      text: characters.slice(start, end).join(""), marked: true,
      attention: scaled(attention[mark], 1e3), delta: scaled(delta[mark], 1e4), sentiment: scaled(sentiment[mark], 1e2),
    });
    at = end;
  }
  pieces.push({ text: characters.slice(at).join("") });
  return pieces;
};

const unpackModel = ({ name, users, quotes, reviews, profiles, titles }) => {
  const pieces = quotes.map(unpackQuote);
  const quoteAt = (index) => (index === undefined ? null : pieces[index]);
  const past = reviews.map(({ user, item, rating = null, quote }) => (
    { user, item, title: titles[item] ?? "", rating, quote: quoteAt(quote) }));
  const unpackProfile = (profile) => profile.map(({ mean_rating = null, quotes: indices = [], ...rest }) => (
    { ...rest, mean_rating, quotes: indices.map((index) => past[index]) }));
  const itemProfiles = profiles.map(unpackProfile);
  const unpackEvidence = (evidence) => evidence.map(({ review, weight = null, ...rest }) => (
    { ...rest, weight, review: past[review] }));
  const unpackClaim = (claim) => claim && { ...claim, quote: claim.quote === undefined ? null : past[claim.quote] };
  const unpackPart = ({ user = null, item = null, ...rest }) => (
    { ...rest, user: unpackClaim(user), item: unpackClaim(item) });
  const unpackItem = ({ item, predicted = null, sentence = "", written = "", neighbours = null, ...rest }) => ({
    item, title: titles[item] ?? "", predicted, sentence, written, neighbours,
    profile: rest.profile === undefined ? [] : itemProfiles[rest.profile],
    keywords: (rest.keywords ?? []).map((keyword) => (
      { ...keyword, user_quote: quoteAt(keyword.user_quote), item_quote: quoteAt(keyword.item_quote) })),
    evidence: unpackEvidence(rest.evidence ?? []),
    words: rest.words ?? [],
    reviews: unpackEvidence(rest.reviews ?? []),
    parts: (rest.parts ?? []).map(unpackPart),
  });
  const explained = users.map(({ user, mean_rating = null, profile = [], recommendations = [] }) => (
    { user, mean_rating, profile: unpackProfile(profile), recommendations: recommendations.map(unpackItem) }));
  const keywords = explained.flatMap((entry) => entry.profile);
  // Which entries of the key are needed.
  const offers = {
    words: keywords.length > 0,
    sides: keywords.some((keyword) => keyword.side !== "neutral"),
    attention: quotes.some((quote) => quote.attention),
    opinions: quotes.some((quote) => quote.sentiment),
    deltas: explained.some((entry) => entry.recommendations.some((item) => item.evidence.length || item.words.length)),
  };
  return { name, users: explained, offers };
};
