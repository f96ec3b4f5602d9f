"""Questions of a bank's customers, written for the demo, by their intent."""

from __future__ import annotations

QUESTIONS = {
    "lost card": [
        "i looked everywhere and my card is nowhere to be found",
        "help, i think i left my card in a taxi",
        "a thief took my wallet with the bank card in it",
        "please block my card, someone stole it last night",
        "my card fell out of my pocket on the beach",
        "somebody grabbed my purse and the card was inside",
        "i misplaced my card, freeze it until it turns up",
        "my card has disappeared, what now?",
    ],
    "card delivery": [
        "which day will the postman bring my new card?",
        "i ordered a card two weeks ago and the mailbox is still empty",
        "how many days does it take to mail a card?",
        "can i follow the envelope with my card on its way to me?",
        "has my replacement card left your office yet?",
        "can you ship the new card by courier?",
        "nobody was at home when the card was delivered",
        "my new card was sent to my old address",
    ],
    "PIN": [
        "the numbers of my pin have slipped my mind",
        "the machine at the shop says wrong pin",
        "i typed three wrong pins and now it is locked",
        "where in the app do i see the pin?",
        "i would like a pin that is easier to remember",
        "can i choose the four digits myself?",
        "how do i unlock a pin after too many attempts?",
        "a stranger watched me enter my pin, i need another one",
    ],
    "foreign currency": [
        "how many euros do i get for a hundred dollars today?",
        "do you hold accounts in swiss francs?",
        "i paid in yen, which rate did you use?",
        "is converting money cheaper on weekdays?",
        "i want to turn my pounds into kroner before the trip",
        "your rate is worse than the one in the newspaper",
        "what does it cost to pay abroad in the local currency?",
        "can my salary stay in dollars?",
    ],
    "transfer": [
        "my sister says the money i sent is not in her account",
        "i mixed up two digits of the account number when sending money",
        "can i stop the payment to my landlord that i set up an hour ago?",
        "how soon will a transfer reach another bank?",
        "what is the largest sum that i may send in one day?",
        "the transfer has been pending since monday",
        "my boss wired my wages but i see nothing yet",
        "how do i send money to a friend who banks elsewhere?",
    ],
    "wrong charge": [
        "this purchase on my statement was not made by me",
        "the restaurant billed me for the same dinner two times",
        "why did you deduct ten dollars from my account?",
        "a shop debited more than the price on the receipt",
        "somebody bought shoes with my account",
        "there is a withdrawal that i know nothing about",
        "the gym keeps billing me although i canceled",
        "i returned the jacket but have not got my money back",
    ],
}
NEW_QUESTIONS = [
    "i have no idea where my card is",
    "when do i get the card i asked for?",
    "i can't remember my secret number",
    "how many kroner do i get for my pounds?",
]
